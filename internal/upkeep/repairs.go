package upkeep

// repairsFile holds what repairs have acknowledged.
const repairsFile = "repairs.json"
