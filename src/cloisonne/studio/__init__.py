"""The studio: an HTTP server with jobs, events and pictures, and the page that uses it."""
