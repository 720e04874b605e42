"""What annotation files and their media hold, whether all of it can be read, and the same records in another form."""
