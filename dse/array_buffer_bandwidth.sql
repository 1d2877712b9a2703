-- the fastest machine for each array and bus, and what buffers it has
SELECT inputs ->> '$."arch.array.rows"' || ' x ' || (inputs ->> '$."arch.array.cols"') AS "array",
       inputs ->> '$."arch.memories.dram.bytes_per_cycle"' AS "DRAM B/cycle",
       inputs ->> '$."arch.memories.weights.size"' AS "weights",
       inputs ->> '$."arch.memories.activations.size"' AS "activations",
       round(min(outputs ->> 'latency_ms'), 1) AS "latency, ms",
       round(outputs ->> 'energy_mj', 1) AS "energy, mJ",
       round(outputs ->> 'area_mm2', 2) AS "area, mm2",
       round(100 * (outputs ->> 'utilisation'), 1) AS "multipliers used, %"
FROM points WHERE status = 'done' GROUP BY 1, 2
ORDER BY inputs ->> '$."arch.array.rows"', inputs ->> '$."arch.array.cols"', 2
