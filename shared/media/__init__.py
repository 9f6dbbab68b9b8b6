"""Images and files on their way in and out of a job."""
