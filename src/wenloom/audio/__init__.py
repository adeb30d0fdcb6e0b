"""Where sound comes from: reading, resampling, log-mel features."""
