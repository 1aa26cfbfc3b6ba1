"""What several tests share: builders of plans and the like."""
