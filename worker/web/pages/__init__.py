"""The pages, one file for each: what a route shows, and which form it takes.

Knows rows, words and templates. Does not look at cookies or headers: each gets a `BrowserRequest`.
Begin with `list_page`, then `study_page` and `study_forms` (verdicts); `json_interface` answers other systems.
"""
