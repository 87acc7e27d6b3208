"""Programs that run inside the sandbox. They import the standard library and what a sandbox sees, nothing of ours."""
