"""Sending webhooks to addresses that tenants choose."""
