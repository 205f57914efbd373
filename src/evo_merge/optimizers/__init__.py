"""Ask/tell adapters over the libraries that search."""
