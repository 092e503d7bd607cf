"""Small models written after public examples and reports that none of us made up; each names its source."""
