"""Users of a site: added, changed and removed, in the files that people edit by hand."""
