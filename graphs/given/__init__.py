"""The way back of reading: a canonical model as the file that its user gave."""
