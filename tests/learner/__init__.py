"""Tests of weft.learner."""
