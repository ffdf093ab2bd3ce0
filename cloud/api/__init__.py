"""What every resource of the API shares: the contract's rules that no view repeats.

A request passes, in this order: `authentication` and `permissions` (who asks), `throttling`,
`bodies` (what was sent), `idempotency` (was it sent before), the view with `fields` and
`filters`, `pagination`, and `errors` for everything that went another way. `views` holds the
base classes that put these together, `schema` describes them as OpenAPI.
"""
