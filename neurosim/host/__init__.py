"""The host section of a Program: from user data to what the I/O port injects."""
