"""The four backing servers: PostgreSQL, RabbitMQ, Redis and an S3 server."""
