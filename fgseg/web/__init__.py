"""The web page and the endpoint for programs: `fgseg serve`, with the extra `fgseg[web]`.

One way through: a request is checked (`limits`), waits for its turn (`turns`), is worked on against a picture that is
kept for its session (`desks`, `bench`), and is shown (`views`, `page`) or sent (`endpoint`). `server` puts them behind
one door (`door`) on 127.0.0.1. Pictures stay in memory, and results become files only while they are sent.
"""
