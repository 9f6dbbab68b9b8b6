"""The inference core: jobs, lane, models, media and receipts; it knows no cloud."""
