"""Whom a model treats otherwise, and how sure that is: audits on published sentences and questions."""
