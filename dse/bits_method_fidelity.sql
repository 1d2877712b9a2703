-- every point: what fewer bits save and cost
SELECT inputs ->> '$.method' AS "method", coalesce(inputs ->> '$."method.n_steps"', '') AS "points",
       replace(inputs ->> '$.numerics', 'fixed16:', '') AS "numerics",
       round(outputs ->> 'latency_ms', 2) AS "latency, ms", round(outputs ->> 'energy_mj', 2) AS "energy, mJ",
       round(outputs ->> '$."fidelity.sqnr_db"', 1) AS "SQNR, dB",
       round(outputs ->> '$."fidelity.spearman"', 3) AS "Spearman",
       round(outputs ->> '$."fidelity.topk"', 2) AS "top 1 %"
FROM points WHERE status = 'done' ORDER BY rowid
