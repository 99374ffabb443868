"""The lab's test phones: their page, how it is built, and what they say and hear as values.

`lab.browser` drives them; nothing here starts a browser.
"""
