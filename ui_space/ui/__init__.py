"""The web page: forms from schemas.json, jobs over HTTP; it imports nothing from outside its own folder."""
