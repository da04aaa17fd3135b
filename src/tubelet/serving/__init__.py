"""Answer over HTTP: one program that holds models, decodes uploads in other processes, and shows a page."""
