"""Views of Flask-SQLAlchemy and Flask-Executor, as they were and as they become."""
