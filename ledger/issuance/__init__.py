"""Mass issuance: files of users, the jobs that they become, and what becomes of each row."""
