"""The site: pages, and the code that writes pages, figures and addresses from the packages."""
