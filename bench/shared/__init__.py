"""`make bench-shared`: a server over PostgreSQL and a bucket beside one over SQLite and a folder."""
