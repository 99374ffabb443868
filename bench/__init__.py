"""What sipdeploy takes: applies beside other tools (`make bench`), sizes, and deployed servers."""
