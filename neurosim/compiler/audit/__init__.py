"""A Program and its Graph come in; out goes a report, or an AuditError. Nothing here imports a pass: everything is derived again and compared."""

from neurosim.compiler.audit.program import AuditReport, audit

__all__ = ["AuditReport", "audit"]
