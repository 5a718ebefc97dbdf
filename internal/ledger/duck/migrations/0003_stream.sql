-- The id of the journal stream that a lane's counts are of: positions of another one mean nothing here.
ALTER TABLE positions ADD COLUMN stream VARCHAR DEFAULT '';
