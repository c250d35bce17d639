"""Telling people and systems: messages, reminders, webhooks, e-mails. None of it decides about a coupon."""
