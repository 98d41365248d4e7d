"""What is studied: a task for estimators, its data, the pretraining of its model."""
