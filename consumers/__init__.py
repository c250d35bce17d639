"""Kafka: messages in, with one effect each."""
