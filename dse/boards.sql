-- the smallest board (by DSP blocks) that reaches a rate, with the least energy per explanation there
WITH wanted(rate) AS (VALUES (3), (10), (30), (100), (300), (1000)),
     met AS (
       SELECT inputs ->> '$.method' || ifnull(' ' || (inputs ->> '$."method.n_steps"'), '') AS method, inputs, outputs, rate
       FROM points JOIN wanted ON outputs ->> 'explanations_per_s' >= rate WHERE status = 'done')
SELECT method AS "method and points", rate AS "wanted, 1/s", inputs ->> '$.arch' AS "board",
       round(outputs ->> 'explanations_per_s', 1) AS "reached, 1/s", round(outputs ->> 'energy_mj', 2) AS "energy, mJ",
       min((outputs ->> 'dsp') * 1e6 + (outputs ->> 'energy_mj')) / 1000000 AS "DSP blocks"
FROM met GROUP BY 1, 2 ORDER BY 1, 2
