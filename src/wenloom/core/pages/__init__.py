"""The design that all HTML pages share: one frame, one stylesheet, one chart. A page is a file that needs no other."""
