"""Cases that trainobs gets wrong today, each with the reason. The list may only shrink."""

AT_MOST = 1

KNOWN_MISSES: dict[str, str] = {
    "mixed precision, an own loop without loss scaling": "flushed by float16, told as a silent loss",
}
