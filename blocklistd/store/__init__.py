"""The store: sealed files for content, a database for what names them. All SQL is here."""
