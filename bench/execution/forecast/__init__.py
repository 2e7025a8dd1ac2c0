"""Forecasts of the seconds that planned runs will take."""
