"""What a run gives out: reports, files, previews, contact sheets, a progress bar."""
