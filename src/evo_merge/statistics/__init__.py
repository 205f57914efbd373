"""Everything that is said of scores with chance in them: intervals, paired tests, corrections, power. Knows only arrays."""
