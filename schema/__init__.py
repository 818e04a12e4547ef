"""What is remembered: words, tables, views and migrations. Imports SQLAlchemy and nothing of ours."""
