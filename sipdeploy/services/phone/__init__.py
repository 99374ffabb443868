"""The phones of a site: what to type into them, and the web phone with its files and data."""
