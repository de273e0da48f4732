"""An installation as files that outlive it: one format for SQLite and PostgreSQL, for local blobs and shared ones.

    <backup>/                   a folder, or the same as a .tar
        tables/files.jsonl      each table: its columns' names, then a row per line
        blobs/files/<digest>/   the blobs that the rows refer to
        training/<job>/         the data of fine-tuning jobs that are not over
        data/                   what the data directory has beside them
        parts.jsonl             each of the files above with its size and SHA-256
        manifest.json           what it is, of when, and the digests of all that; written last

What is a cache (indexes, what the embedder and base models were converted to) is left out, and so are checkpoints.

making.py       the backup of an installation, also of one whose server runs
checking.py     whether a backup is what its manifest says
restoring.py    a backup into an empty installation
moving.py       an installation into PostgreSQL and another blob store
"""
