"""Stage three: the steps run as a graph on Ray, shared, within their time, planned anew where they fail; the record of it as it goes on."""
