-- one line per machine: latency in ms for each number of points in flight, and what the best of them saves over one
SELECT inputs ->> '$."arch.array.dataflow"' AS "dataflow",
       inputs ->> '$."arch.memories.activations.size"' AS "activations",
       inputs ->> '$."arch.memories.dram.bytes_per_cycle"' AS "DRAM B/cycle",
       round(max(outputs ->> 'latency_ms') FILTER (WHERE p = 1), 2) AS "1", round(max(outputs ->> 'latency_ms') FILTER (WHERE p = 2), 2) AS "2",
       round(max(outputs ->> 'latency_ms') FILTER (WHERE p = 5), 2) AS "5", round(max(outputs ->> 'latency_ms') FILTER (WHERE p = 10), 2) AS "10",
       round(max(outputs ->> 'latency_ms') FILTER (WHERE p = 25), 2) AS "25", round(max(outputs ->> 'latency_ms') FILTER (WHERE p = 50), 2) AS "50",
       round(100 * (1 - min(outputs ->> 'latency_ms') / max(outputs ->> 'latency_ms') FILTER (WHERE p = 1)), 1) AS "best saves, %"
FROM (SELECT *, inputs ->> '$."mapping.kernels.path gradient.points_in_flight"' AS p FROM points WHERE status = 'done')
GROUP BY 1, 2, 3
