"""Escapes and abuses, each tried without the sandbox, where it must succeed, and with it, where it must fail.

Judged by a canary that an attack can only reach by being where it must not be: a secret, a file, a socket, a process.
"""
