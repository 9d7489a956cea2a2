"""What a reader sees of recorded figures: the ledger of runs, tables, pages and plots."""
