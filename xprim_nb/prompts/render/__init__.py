"""How a prompt is sent: in come a `ResolveInput` and its parts in order, out goes the body of a request.

One module a provider. A renderer is a pure function with a name and a version, both part of what it makes: whoever
changes one byte of it raises the version, for what a provider has kept under the old one will not be found again.
"""
