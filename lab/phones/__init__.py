"""The browser phones of the lab: their page, its build, their calls, audio and SIP messages.

`lab.browser` starts the browser.
"""
