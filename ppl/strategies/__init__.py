"""How a run is spread over processes: Lightning's strategies, told what this project's models are made of."""
