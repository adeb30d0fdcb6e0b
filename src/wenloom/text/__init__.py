"""Where text comes from: readers, repair, de-duplication and the split into train and validation."""
