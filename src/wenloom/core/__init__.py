"""What every other folder shares: errors, files, hardware, console, randomness."""
