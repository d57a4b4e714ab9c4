"""The web page and the endpoint for programs: `fgseg serve`, with the extra `fgseg[web]`.

The way of a request: `middleware` checks where it comes from and its size, `routes` (endpoint, files) or `page` and
`events` (browser) read it, `limits` checks its prompts, and `service` computes the result, one request at a time.
`sessions` keeps images and results in memory, and `html` shows them. A result becomes a file only for a download.
`server` puts all of it on 127.0.0.1.
"""
