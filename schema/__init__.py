"""The database: vocabulary, tables, views and migrations. Imports SQLAlchemy and no other package of this code base."""
