"""What was found, for people: text, a Markdown table, one HTML page. All of it from the JSON.

Only what ``RunResult.as_json`` holds is shown, so whoever has the JSON can have the rest again.
"""
